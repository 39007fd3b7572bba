"""A bare engine in a process of its own: reads what to do as JSON lines, answers with what it took. No server.

Usage: bare.py openvino|xllamacpp MODEL.gguf, bare.py minilm|whisper FOLDER, or, in an environment that has vLLM,
bare.py vllm FOLDER. Of texts that become vectors, and of speech, the one mark is when all was done.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

Marks = list[list[float]]
"""For each stream the seconds, since the start, at which each of its tokens came."""


def openvino(path: str) -> Callable[[list[str], int], Marks]:
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks, scheduler.max_num_seqs = 2048, 16
    scheduler.enable_prefix_caching = scheduler.dynamic_split_fuse = True
    pipeline = genai.ContinuousBatchingPipeline(path, scheduler, "CPU", {"INFERENCE_NUM_THREADS": 2})
    tokenizer = pipeline.get_tokenizer()

    def run(prompts: list[str], tokens: int) -> Marks:
        config = genai.GenerationConfig(max_new_tokens=tokens)
        config.eos_token_id = tokenizer.get_eos_token_id()
        started = time.perf_counter()
        handles = []
        for number, prompt in enumerate(prompts):
            ids = tokenizer.encode(prompt, add_special_tokens=False).input_ids.data
            handles.append(pipeline.add_request(number, ov.Tensor(np.array(ids)), config))
        marks: Marks = [[] for _ in prompts]
        while pipeline.has_non_finished_requests():
            pipeline.step()
            now = time.perf_counter() - started
            for mark, handle in zip(marks, handles, strict=True):
                while handle.can_read():
                    mark += [now for output in handle.read().values() for _ in output.generated_ids]
        return marks

    return run


def xllamacpp(path: str) -> Callable[[list[str], int], Marks]:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_parallel, params.n_ctx = path, 8, 8 * 2048
    params.cont_batching = params.cache_prompt = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
    params.cache_ram_mib, params.api_keys, params.verbosity = 256, ["none"], -1
    server = xllamacpp.Server(params)

    def run(prompts: list[str], tokens: int) -> Marks:
        marks: Marks = [[] for _ in prompts]
        started = time.perf_counter()

        def ask(mark: list[float], prompt: str) -> None:
            def told(event: Any) -> bool:
                mark.append(time.perf_counter() - started)
                return False

            body = {"prompt": prompt, "n_predict": tokens, "stream": True, "temperature": 0}
            server.handle_completions(body, told)
            del mark[-1]  # the last event says that it is the last

        threads = [threading.Thread(target=ask, args=pair) for pair in zip(marks, prompts, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return marks

    return run


def vllm(path: str) -> Callable[[list[str], int], Marks]:
    from vllm import EngineArgs, LLMEngine, SamplingParams

    engine = LLMEngine.from_engine_args(EngineArgs(path, max_num_seqs=16, max_model_len=2048))

    def run(prompts: list[str], tokens: int) -> Marks:
        params = SamplingParams(max_tokens=tokens, temperature=0, ignore_eos=True)
        started = time.perf_counter()
        for number, prompt in enumerate(prompts):
            engine.add_request(str(number), prompt, params)
        marks: Marks = [[] for _ in prompts]
        while engine.has_unfinished_requests():
            for output in engine.step():
                mark = marks[int(output.request_id.partition("-")[0])]
                now = time.perf_counter() - started
                mark += [now] * (len(output.outputs[0].token_ids) - len(mark))
        return marks

    return run


def minilm(path: str) -> Callable[[list[str], int], Marks]:
    import numpy as np
    import onnxruntime as ort
    from tokenizers import Tokenizer

    session = ort.InferenceSession(f"{path}/model.onnx", providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(f"{path}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    takes = [each.name for each in session.get_inputs()]

    def run(texts: list[str], _: int) -> Marks:
        started = time.perf_counter()
        encoded = tokenizer.encode_batch(texts)
        ids, mask = (np.array([getattr(each, name) for each in encoded]) for name in ("ids", "attention_mask"))
        tensors = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (states, *_) = session.run(None, {name: tensors[name] for name in takes})
        weights = mask[:, :, None].astype(np.float32)
        vectors = (states * weights).sum(1) / weights.sum(1)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return [[time.perf_counter() - started]]

    return run


def whisper(path: str) -> Callable[[list[str], int], Marks]:
    from faster_whisper import WhisperModel

    model = WhisperModel(path, device="cpu", compute_type="default", cpu_threads=2)

    def run(clips: list[str], _: int) -> Marks:
        started = time.perf_counter()
        for clip in clips:
            segments, _about = model.transcribe(clip, beam_size=5, temperature=0.0)
            assert "".join(each.text for each in segments)
        return [[time.perf_counter() - started]]

    return run


def main() -> None:
    began = time.perf_counter()
    known = {each.__name__: each for each in (openvino, xllamacpp, vllm, minilm, whisper)}
    run = known[sys.argv[1]](sys.argv[2])
    print(json.dumps({"load_seconds": time.perf_counter() - began}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps({"marks": run(task["prompts"], task["tokens"])}), flush=True)


if __name__ == "__main__":
    main()
