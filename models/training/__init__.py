"""Training of students: a plain loop whose every random choice is a function of (seed, epoch, item)."""
