"""What KubeRay does with a RayService's serveConfigV2: checks it, and runs its first application on this machine. Prints what it answers.

Arguments: the config's file, the folder of its import path, the model's folder, a prompt. Without the last two it is only checked: with Ray LLM's own
types where it names them.
"""

import json
import socket
import sys
import urllib.request

import yaml
from ray.serve.schema import ServeDeploySchema


def check(config: dict) -> None:
    ServeDeploySchema.model_validate(config)
    for application in config["applications"]:
        if application["import_path"].startswith("ray.serve.llm"):
            from ray.serve.llm import LLMConfig

            for each in application["args"]["llm_configs"]:
                LLMConfig(**each)


def answer(application: dict, folder: str, model: str, prompt: str) -> object:
    import ray
    from ray import serve
    from ray._common.utils import import_attr

    sys.path.insert(0, folder)
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": folder}})
    try:
        build = import_attr(application["import_path"])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(build({**application["args"], "model_dir": model}), name=application["name"], route_prefix=application["route_prefix"])
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", json.dumps({"prompt": prompt, "max_new_tokens": 4}).encode())
        return json.loads(urllib.request.urlopen(request, timeout=120).read())
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        config = yaml.safe_load(file)
    check(config)
    result = answer(config["applications"][0], *sys.argv[2:]) if len(sys.argv) > 2 else "checked"
    print("RESULT " + json.dumps(result))
