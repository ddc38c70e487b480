//! Errors that AWS's front ends answer but the service model does not list, and Hearth's own one for
//! what it cannot do yet. Statuses and casing as recorded from AWS Lambda.

/// One error outside the model: code, HTTP status, name of the message member.
pub(crate) struct CommonError {
    pub(crate) code: &'static str,
    pub(crate) status: u16,
    pub(crate) message_member: &'static str,
}

const fn common(code: &'static str, status: u16) -> CommonError {
    CommonError {
        code,
        status,
        message_member: "message",
    }
}

pub(crate) const COMMON_ERRORS: [CommonError; 15] = [
    CommonError {
        code: "AccessDeniedException",
        status: 403,
        message_member: "Message",
    },
    common("ExpiredTokenException", 403),
    common("IncompleteSignatureException", 403),
    common("InternalFailure", 500),
    common("InvalidSignatureException", 403),
    common("MissingAuthenticationTokenException", 403),
    common("NotImplemented", 501),
    common("RequestEntityTooLargeException", 413),
    common("RequestTimeoutException", 408),
    common("SerializationException", 400),
    common("ServiceUnavailableException", 503),
    common("ThrottlingException", 400),
    common("UnknownOperationException", 404),
    common("UnrecognizedClientException", 403),
    common("ValidationException", 400),
];

/// As above, of the query protocol: code, status and whether the sender is at fault. "Common Errors" of IAM's reference.
pub(crate) const COMMON_QUERY_ERRORS: [(&str, u16, bool); 15] = [
    ("AccessDenied", 403, true),
    ("ExpiredToken", 403, true),
    ("IncompleteSignature", 400, true),
    ("InternalFailure", 500, false),
    ("InvalidAction", 400, true),
    ("InvalidClientTokenId", 403, true),
    ("MalformedQueryString", 404, true),
    ("MissingAuthenticationToken", 403, true),
    ("NotImplemented", 501, false),
    ("RequestEntityTooLarge", 413, true),
    ("RequestTimeout", 408, true),
    ("ServiceUnavailable", 503, false),
    ("SignatureDoesNotMatch", 403, true),
    ("Throttling", 400, true),
    ("ValidationError", 400, true),
];

/// As above, of the JSON protocol, where what is wrong with a signature has the status of any other fault of the sender. What the
/// models list themselves is not here.
pub(crate) const COMMON_JSON_ERRORS: [(&str, u16); 11] = [
    ("ExpiredTokenException", 400),
    ("IncompleteSignatureException", 400),
    ("InternalFailure", 500),
    ("InvalidSignatureException", 400),
    ("MissingAuthenticationTokenException", 400),
    ("NotImplemented", 501),
    ("RequestEntityTooLargeException", 413),
    ("RequestTimeoutException", 408),
    ("SerializationException", 400),
    ("ThrottlingException", 400),
    ("UnknownOperationException", 400),
];
