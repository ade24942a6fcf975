"""Search over options: trials are runs, stopped early where others learned faster."""
