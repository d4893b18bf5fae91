"""PyTorch engines. With scoring/jax the only place where a framework is imported; read the two side by side.

Letters: t token, s scored position, v vocabulary, d hidden, l layer, n query head, k key/value head,
g query heads per key/value head, h head dimension, f feed-forward, c label.
"""
