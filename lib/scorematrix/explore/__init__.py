"""What `04_explore.ipynb` calls: your own queries scored by every framework that is here, and recorded runs.

The forms are in `explore.widgets`, which needs ipywidgets.
"""

from scorematrix.explore.own import attention_layout, compare_backends, token_table
from scorematrix.explore.recorded import cell_calls, change_since, item_table

__all__ = ["attention_layout", "cell_calls", "change_since", "compare_backends", "item_table", "token_table"]
