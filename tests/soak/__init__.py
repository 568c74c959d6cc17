"""`make soak`: a standalone gateway under friendly and hostile load for as long as asked; nothing may grow.

Tasks, descriptors and memory are read from outside: the admin port's task tree, and /proc.
"""
