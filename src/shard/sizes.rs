//! What a connection's parts are worth in memory. A million of each are kept, so none may grow unseen
//! (`spec/performance.md`, workload H).

use mio::net::TcpStream;

use crate::app::Session;
use crate::room::members::Membership;
use crate::shard::client::Client;
use crate::shard::conn::Conn;
use crate::users::User;

#[test]
fn the_parts_of_a_connection_stay_small() {
    let parts = [
        ("Conn", size_of::<Conn<TcpStream>>(), 96),
        ("Client", size_of::<Client>(), 216),
        ("Session", size_of::<Session>(), 80),
        ("User", size_of::<User>(), 96),
        ("Membership", size_of::<Membership>(), 8),
    ];
    println!("{parts:?}");
    for (name, bytes, most) in parts {
        assert!(bytes <= most, "{name} has {bytes} bytes, more than {most}");
    }
}
