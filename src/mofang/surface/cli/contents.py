"""The table of contents of the command line: every verb, its stage of a model's life, and one line about it.

`mofang --help` prints it without importing any command, which is why it is data here and not in the commands;
``tests/unit/cli/test_cli_help.py`` keeps the two in step.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: its name, the module of ``surface/cli`` that has it under the same name, and its line."""

    name: str
    module: str
    summary: str


CONTENTS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    (
        "operate",
        (
            Entry("up", "operate", "start the server on this machine"),
            Entry("down", "operate", "stop it, after the answers in flight"),
            Entry("status", "operate", "what runs: processes, endpoints, versions"),
            Entry("toolchains", "toolchains", "environments of large frameworks: install, remove"),
            Entry("doctor", "doctor", "check this machine, the data directory and the server"),
        ),
    ),
    (
        "prepare",
        (
            Entry("prepare", "prepare", "prepare the data of a recipe, and look at it"),
            Entry("datasets", "prepare", "data sets: rows, schema, digest"),
        ),
    ),
    (
        "train",
        (
            Entry("train", "train", "run a recipe: data to a registered, evaluated version"),
            Entry("runs", "train", "training runs: curve, parity, gate, result"),
        ),
    ),
    ("evaluate", (Entry("evaluate", "evaluate", "measure a version on held-out data, hold it to a gate"),)),
    (
        "compress",
        (
            Entry("compress", "compress", "search for the best smaller, faster variant, by measuring"),
            Entry("tune", "tune", "how to run a version on this machine within a latency, by measuring"),
            Entry("variants", "compress", "the variants of a version, and all that was measured"),
        ),
    ),
    (
        "register",
        (
            Entry("push", "register", "register a model file as the next version"),
            Entry("models", "register", "models and what they take and give"),
            Entry("versions", "register", "versions of a model: digest, lineage, metrics"),
            Entry("promote", "register", "point an alias (champion) at a version"),
            Entry("export", "export", "take a version out: ONNX, PyTorch, Keras, GGUF, with card and code"),
        ),
    ),
    (
        "deploy",
        (
            Entry("deploy", "deploy", "serve a version under an endpoint's name"),
            Entry("endpoints", "deploy", "endpoints: what answers, replicas, revisions"),
            Entry("rollout", "deploy", "switch an endpoint to another version, or watch a switch"),
            Entry("rollback", "deploy", "switch an endpoint back to an earlier revision"),
        ),
    ),
    (
        "serve",
        (
            Entry("predict", "serve", "ask an endpoint, over REST or gRPC"),
            Entry("chat", "chat", "talk with a language model"),
        ),
    ),
    ("meter", (Entry("usage", "meter", "what was used, by whom, of which version"),)),
    ("budget", (Entry("budget", "budget", "budgets and quotas: nobody uses more than was agreed"),)),
    (
        "bill",
        (
            Entry("prices", "bill", "the price book"),
            Entry("quote", "bill", "what a request or a batch will cost, before it runs"),
            Entry("invoice", "invoices", "invoices: make, issue, correct, trace, print, recompute"),
            Entry("parties", "invoices", "names and addresses on invoices"),
        ),
    ),
    (
        "identity",
        (
            Entry("keys", "identity", "API keys: create, list, revoke"),
            Entry("projects", "identity", "projects: who uses"),
            Entry("tenants", "identity", "tenants: who pays"),
            Entry("users", "users", "people, and the role each has where"),
            Entry("login", "users", "sign in as a person"),
            Entry("logout", "users", "end your session"),
            Entry("whoami", "users", "as whom you ask, and what you may do"),
            Entry("roles", "roles", "what each role may do"),
            Entry("limits", "limits", "how much a key, project or tenant may ask"),
        ),
    ),
    ("audit", (Entry("audit", "audit", "who did what; proof that no record was touched"),)),
    ("jobs", (Entry("jobs", "jobs", "long work: show, follow, cancel"),)),
    ("shell", (Entry("completion", "completion", "completion for bash, zsh or fish"),)),
)


def entries() -> dict[str, Entry]:
    """Return every entry by its command's name, in order."""
    return {entry.name: entry for _, group in CONTENTS for entry in group}
