"""Waiting lines: locks, semaphores, queues, elections, barriers, from everywhere."""
