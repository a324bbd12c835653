"""Statistics: intervals, and the gain of a point over a whole front."""
