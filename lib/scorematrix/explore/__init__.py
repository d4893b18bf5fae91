"""A face for the explore notebook: own queries scored by every framework that is here, and recorded runs."""

from scorematrix.explore.own import attention_layout, compare_backends, token_table
from scorematrix.explore.recorded import Recorded, open_recorded

__all__ = ["Recorded", "attention_layout", "compare_backends", "open_recorded", "token_table"]
