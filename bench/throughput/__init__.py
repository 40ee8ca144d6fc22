"""The main path, stage by stage and whole, against PyTorch and FAISS; the encoder by session length."""
