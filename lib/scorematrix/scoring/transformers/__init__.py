"""The baseline: what a user would write with Hugging Face transformers, and the reference for exactness."""
