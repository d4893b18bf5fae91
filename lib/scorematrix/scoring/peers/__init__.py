"""Other scorers that can be installed, each in an environment of its own: what our engines are measured against."""
