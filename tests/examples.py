"""How many examples Hypothesis makes up: all of them in continuous integration (CI=true), a third of them elsewhere."""

import os


def examples(count: int) -> int:
    return count if os.environ.get("CI") else max(5, count // 3)
