//! Histories of what clients saw, and the checkers that judge them.
