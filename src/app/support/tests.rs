//! Transcripts of a session of `support`, with the store's answers played by hand.
