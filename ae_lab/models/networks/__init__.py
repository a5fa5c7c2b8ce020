"""Encoders and decoders, by family."""
