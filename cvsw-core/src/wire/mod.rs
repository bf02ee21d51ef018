//! L0: bytes to fields and back, one file per format. Imports nothing of ours.
