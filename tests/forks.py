"""What an engine's libraries compute in a process that was forked by one that had only imported them: a worker."""

from __future__ import annotations

import subprocess
import sys

_FORKS = """
import gc, os, signal, sys
from mofang.base.engines.catalog import import_engine

import_engine(sys.argv[1])
gc.freeze()
for _ in range(2):  # more than one is born of the same
    child = os.fork()
    if not child:
        signal.alarm(60)  # a lock that nobody holds any more is waited for for ever
        import numpy as np
        x = np.random.default_rng(0).normal(size=(2000, 10)).astype(np.float32)
        y = (x[:, 0] > 0).astype(int)
        exec(sys.argv[2])
        assert np.isfinite(x.T @ x).all()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        sys.exit(f"it ended with {status}")
"""
LEARNS = {
    "sklearn": """
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
for one in (RandomForestClassifier(20, n_jobs=2), HistGradientBoostingClassifier(max_iter=10)):
    assert one.fit(x, y).score(x, y) > 0.9
""",
    "xgboost": """
import xgboost
learned = xgboost.train({"objective": "binary:logistic", "nthread": 2}, xgboost.DMatrix(x, y), 10)
assert ((learned.inplace_predict(x) > 0.5) == y).mean() > 0.9
""",
    "catboost": """
import catboost
one = catboost.CatBoostClassifier(iterations=10, verbose=0, allow_writing_files=False, thread_count=2)
assert one.fit(x, y).score(x, y) > 0.9
""",
    "vowpalwabbit": """
import vowpalwabbit
one = vowpalwabbit.Workspace("--quiet")
for _ in range(200):
    one.learn("1 | a b")
assert one.predict("| a b") > 0.9
""",
}
"""By engine: what its libraries learn and compute, with two threads where they can."""


def fork(engine: str) -> None:
    """Have it computed; raise CalledProcessError if that fails or hangs."""
    subprocess.run([sys.executable, "-c", _FORKS, engine, LEARNS[engine]], check=True, timeout=180)
