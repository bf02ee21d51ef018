//! Encapsulation templates and decapsulation.
