"""Vectors of texts and speech to text: the server's answers beside the same library in a process of its own."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
import wave
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
from contenders import Bare
from texts import prompts

from models import MINILM_INT8, MINILM_TOKENIZER, SPEECH, WHISPER_TINY, PinnedFile, fetch, fetch_debian
from servers import Server

TEXTS = 32
CLIP_SECONDS = 7

Ask = Callable[[], float]
"""Does it once; returns the seconds it took."""


def others(server: Server, rounds: int) -> None:
    """Deploy MiniLM and Whisper, and ask server and library in turns."""
    with tempfile.TemporaryDirectory() as name, httpx.Client(timeout=60, trust_env=False) as client:
        folder = Path(name)
        client.headers["authorization"] = f"Bearer {server.key}"
        chance = random.Random(2)
        texts = [prompts(1, chance, words=40)[0] for _ in range(TEXTS)]
        model = _deployed(server, "minilm", (MINILM_INT8, MINILM_TOKENIZER), "encoder", folder)
        body = {"model": "minilm", "input": texts, "encoding_format": "base64"}
        ratio = _beside(
            Bare("minilm", model), texts, lambda: client.post(f"{server.url}/v1/embeddings", json=body), 10 * rounds
        )
        print(f"\nvectors of {TEXTS} texts by MiniLM: {1 / ratio:.2f} of the rate of the bare library (goal .90)")
        model = _deployed(server, "ear", WHISPER_TINY, "whisper", folder)
        clip = _clip(fetch_debian(SPEECH), folder / "clip.wav")
        form, content = {"model": "ear", "temperature": "0"}, clip.read_bytes()
        ratio = _beside(
            Bare("whisper", model), [str(clip)],
            lambda: client.post(
                f"{server.url}/v1/audio/transcriptions", data=form, files={"file": ("clip.wav", content)}
            ), rounds,
        )  # fmt: skip
        print(f"{CLIP_SECONDS} s of speech by Whisper: {ratio:.2f} times what the bare library takes (goal 1.15)")


def _beside(bare: Bare, texts: list[str], ask: Callable[[], httpx.Response], rounds: int) -> float:
    """Return by how much longer the server takes than ``bare``: the median over rounds of both, one after the other."""

    def served() -> float:
        began = time.perf_counter()
        ask().raise_for_status()
        return time.perf_counter() - began

    def alone() -> float:
        return bare.run(texts, 0)[0][0]

    both: Mapping[str, Ask] = {"served": served, "alone": alone}
    ratios = []
    for number in range(rounds + 2):
        took = {name: both[name]() for name in (sorted(both) if number % 2 else sorted(both, reverse=True))}
        ratios.append(took["served"] / took["alone"])
    bare.close()
    return statistics.median(ratios[2:])  # what is made once is made


def _deployed(server: Server, name: str, files: tuple[PinnedFile, ...], engine: str, parent: Path) -> Path:
    """Deploy ``files`` as ``name``; return the folder that has them."""
    folder = parent / name
    folder.mkdir()
    for pinned in files:
        (folder / Path(pinned.member).name).symlink_to(fetch(pinned))
    server.client.jobs.wait(server.client.register.push(name, sorted(folder.iterdir()), engine=engine).id)
    server.client.deploy.roll_out(name)
    return folder


def _clip(speech: Path, path: Path) -> Path:
    """Say it again and again until the clip is as long as it should be."""
    with wave.open(str(speech), "rb") as read, wave.open(str(path), "wb") as written:
        written.setparams(read.getparams())
        frames, size = read.readframes(read.getnframes()), read.getsampwidth() * read.getnchannels()
        wanted = CLIP_SECONDS * read.getframerate() * size
        written.writeframes((frames * (wanted // len(frames) + 1))[:wanted])
    return path
