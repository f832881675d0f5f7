"""Our detector beside the program it repeats, stage by stage."""
