"""The Triton kernels of aw_loss. Names: `_p` pointer, `i_` program id, `m_` mask; axes B rows, N items, d = D."""
