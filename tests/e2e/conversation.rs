//! The app `conversation`: one-to-one chat of two users on real sockets (`spec/conversation.md`).

mod access;
mod backend;
mod connect;
mod durable;
mod limits;
mod messages;
mod presence;
mod shapes;
mod types;
mod typing;
