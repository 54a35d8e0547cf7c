"""Grades completions in processes that can be killed, and asks judges and reward models beside them."""
