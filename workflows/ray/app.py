"""Ray Serve over a model folder that modelferry's fetch has filled: `serve run app:build model_dir=/models/tiny`.

The part that needs no Ray is what looks at the folder; it fails at once, with what is missing, instead of asking the Hub again.
"""

import json
import os
from pathlib import Path


def model_folder(arguments: dict) -> Path:
    """The folder from the arguments, else from MODEL_DIR. Raises FileNotFoundError unless config.json and all weights are there."""
    folder = Path(arguments.get("model_dir") or os.environ["MODEL_DIR"])
    index = folder / "model.safetensors.index.json"
    names = {"config.json"}
    if index.is_file():
        names |= set(json.loads(index.read_text())["weight_map"].values())
    else:
        names.add("model.safetensors")
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}: has the fetch step run?")
    return folder


def build(arguments: dict):
    """The application: POST {"prompt": "..."} gives {"text": "..."}. Runs on a GPU where `gpus` is given."""
    # Nothing is fetched from here on.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from ray import serve
    from starlette.requests import Request

    folder = model_folder(arguments)
    gpus = float(arguments.get("gpus", 0))

    @serve.deployment(ray_actor_options={"num_gpus": gpus, "runtime_env": {"env_vars": {"HF_HUB_OFFLINE": "1"}}})
    class Model:
        def __init__(self, path: str, on_gpu: bool):
            from transformers import pipeline

            self.generate = pipeline("text-generation", model=path, device=0 if on_gpu else -1)

        async def __call__(self, request: Request) -> dict:
            asked = await request.json()
            answer = self.generate(asked["prompt"], max_new_tokens=int(asked.get("max_new_tokens", 64)))
            return {"text": answer[0]["generated_text"]}

    return Model.bind(str(folder), gpus > 0)
