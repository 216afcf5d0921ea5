"""Rivals under the same load: each module starts one, given its binary, and says what to ask it."""
