"""Where a trial's training curve and metrics are also kept, for those who look at them there: one tracker a file.

A tracker is named in `names` and imported when a trial begins. From outside:
``TRACKERS.register("mine", "my_package.mine:MINE")``.
Rows stay the truth: nothing is read back from a tracker, and one that fails costs no trial.
"""
