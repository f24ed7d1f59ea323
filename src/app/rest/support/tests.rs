//! Requests and answers of the endpoints of support sessions.
