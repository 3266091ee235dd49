"""Arrow tables as the frames of other libraries, which are imported on demand and before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


def polars_frame(read: Callable[[], pa.Table]) -> pl.DataFrame:
    """As a Polars frame; text and numbers are shared, not copied.

    Raises:
        ImportError: Polars is missing.
    """
    try:
        import polars as pl
    except ImportError as error:
        raise ImportError("a Polars frame needs Polars: pip install 'batchor-core[polars]'") from error
    frame = pl.from_arrow(read())
    assert isinstance(frame, pl.DataFrame)
    return frame


def pandas_frame(read: Callable[[], pa.Table]) -> pd.DataFrame:
    """As a pandas frame. Integers and bools have pandas' nullable types: a failed row has no value, and no number is
    rounded.

    Raises:
        ImportError: pandas is missing.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("a pandas frame needs pandas: pip install 'batchor-core[pandas]'") from error
    nullable = {
        pa.int64(): pd.Int64Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.bool_(): pd.BooleanDtype(),
    }
    frame: pd.DataFrame = read().to_pandas(types_mapper=nullable.get)
    return frame
