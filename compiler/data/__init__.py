"""Where samples come from, and what happens to them before the model sees them.

``open_data`` (open.py) opens a set; ``split_holdout`` (holdout.py) parts one; ``Watched`` (lint.py)
and ``check_scaling`` (scaling.py) say what looks wrong in one; ``random_data`` makes one up.
"""
