//! AWS Signature Version 4: checking a request's signature, and making one.
