//! The rule language: text to AST to predicate.
