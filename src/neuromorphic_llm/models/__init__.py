"""Pretrained checkpoints: fetching, reading (Hugging Face folder, GGUF) and checking them."""
