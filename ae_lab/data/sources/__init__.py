"""Data sets: functions that return an `ImageSet`."""
