"""Loads a model in vLLM and prints what it says: model, load format."""

import json
import sys

from vllm import LLM, SamplingParams

if __name__ == "__main__":
    llm = LLM(model=sys.argv[1], load_format=sys.argv[2], enforce_eager=True, max_model_len=64, max_num_seqs=2)
    out = llm.generate(["hello world"], SamplingParams(temperature=0, max_tokens=8, ignore_eos=True))[0]
    print("RESULT " + json.dumps(list(out.outputs[0].token_ids)))
