//! Writes a JSON object member by member, in the order given, without a tree.

use serde::Serialize;

use crate::proto::json::Raw;

/// An object being written.
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    /// Appends a whole object to `out`.
    pub fn write(out: &'a mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
        out.push(b'{');
        let mut object = Object { out, is_empty: true };
        fill(&mut object);
        object.out.push(b'}');
    }

    fn key(&mut self, key: &str) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        put(self.out, key);
        self.out.push(b':');
    }

    /// A member of any value.
    pub fn put(&mut self, key: &str, value: impl Serialize) -> &mut Self {
        self.key(key);
        put(self.out, value);
        self
    }

    /// A member whose value is passed on as it was written.
    pub fn raw(&mut self, key: &str, value: Raw<'_>) -> &mut Self {
        self.key(key);
        self.out.extend_from_slice(value.bytes());
        self
    }

    /// A member whose value is a JSON text that was checked when it came, or `{}` where there is none.
    pub fn stored(&mut self, key: &str, json: Option<&str>) -> &mut Self {
        self.key(key);
        self.out.extend_from_slice(json.unwrap_or("{}").as_bytes());
        self
    }

    /// A member that is a list of JSON texts that were checked when they came.
    pub fn stored_list<'j>(&mut self, key: &str, items: impl Iterator<Item = &'j str>) -> &mut Self {
        self.key(key);
        self.out.push(b'[');
        for (index, json) in items.enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(json.as_bytes());
        }
        self.out.push(b']');
        self
    }

    /// A member that is an object, or `null`.
    pub fn object_or_null<T>(
        &mut self,
        key: &str,
        value: Option<T>,
        fill: impl FnOnce(T, &mut Object<'_>),
    ) -> &mut Self {
        match value {
            Some(value) => self.object(key, |object| fill(value, object)),
            None => self.put(key, ()),
        }
    }

    /// A member that is an object.
    pub fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        self.key(key);
        Object::write(self.out, fill);
        self
    }

    /// A member that is a list of objects.
    pub fn list<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(T, &mut Object<'_>),
    ) -> &mut Self {
        self.key(key);
        self.out.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            Object::write(self.out, |object| fill(item, object));
        }
        self.out.push(b']');
        self
    }
}

/// Appends a value. Strings, numbers, booleans and lists of them cannot fail, and a `Vec` takes all.
pub fn put(out: &mut Vec<u8>, value: impl Serialize) {
    if serde_json::to_writer(&mut *out, &value).is_err() {
        out.extend_from_slice(b"null");
    }
}
