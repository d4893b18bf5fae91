"""Other scorers, each installed in a separate environment: the competitors that our engines are measured against."""
