"""pandarallel: parallel_apply on frames, series and groups, with and without a progress bar."""

# requires: pandarallel pandas
import contextlib
import io

import pandas as pd
from pandarallel import pandarallel


def row(r):
    return r.a * 2 + r.b


def main():
    frame = pd.DataFrame({"a": range(20), "b": range(100, 120), "c": [i % 3 for i in range(20)]})
    for bar in (False, True):
        with contextlib.redirect_stdout(io.StringIO()):
            pandarallel.initialize(nb_workers=2, progress_bar=bar, verbose=0, use_memory_fs=False)
            result = frame.parallel_apply(row, axis=1)
        print(result.tolist())
        with contextlib.redirect_stdout(io.StringIO()):
            result = frame.a.parallel_map(lambda x: x**2)
            groups = frame.groupby("c").parallel_apply(lambda g: g.b.sum())
        print(result.tolist(), groups.tolist())


if __name__ == "__main__":
    main()
