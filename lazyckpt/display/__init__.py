"""How anything is written for people: names, byte counts, HTML. Knows no checkpoint."""
