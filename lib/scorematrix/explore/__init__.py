"""Functions of `04_explore.ipynb`: score your queries with every installed framework, and look into recorded runs.

The forms are in `explore.widgets`, which needs ipywidgets.
"""

from scorematrix.explore.own import attention_layout, compare_backends, token_table
from scorematrix.explore.recorded import cell_calls, change_since, item_table

__all__ = ["attention_layout", "cell_calls", "change_since", "compare_backends", "item_table", "token_table"]
