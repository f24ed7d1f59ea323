//! Transcripts of sessions of `mobile`, with the store's answers played by hand.
