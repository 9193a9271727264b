//! Writes whatever can be serialized as canonical JSON, an object at a time: the largest thing in memory besides the text is one object's members.

use serde::Serialize;
use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::{Number, Value};

use super::{JcsError, number_text, write_string};

type Done = Result<(), JcsError>;

/// Appends one value.
pub(super) struct Writer<'o>(pub(super) &'o mut String);

impl Writer<'_> {
    fn number(self, number: &Number) -> Done {
        self.0.push_str(&number_text(number)?);
        Ok(())
    }
}

impl<'o> Writer<'o> {
    fn items(self, close: &'static str) -> Items<'o> {
        self.0.push('[');
        Items { out: self.0, first: true, close }
    }

    fn members(self, close: &'static str) -> Members<'o> {
        Members { out: self.0, written: Vec::new(), name: String::new(), close }
    }

    /// A variant with content is an object of one member, which the returned writer's value is.
    fn variant(self, name: &str) -> Self {
        self.0.push('{');
        write_string(name, self.0);
        self.0.push(':');
        self
    }
}

impl<'o> Serializer for Writer<'o> {
    type Ok = ();
    type Error = JcsError;
    type SerializeSeq = Items<'o>;
    type SerializeTuple = Items<'o>;
    type SerializeTupleStruct = Items<'o>;
    type SerializeTupleVariant = Items<'o>;
    type SerializeMap = Members<'o>;
    type SerializeStruct = Members<'o>;
    type SerializeStructVariant = Members<'o>;

    fn serialize_bool(self, value: bool) -> Done {
        self.0.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Done {
        self.number(&value.into())
    }

    fn serialize_i16(self, value: i16) -> Done {
        self.number(&value.into())
    }

    fn serialize_i32(self, value: i32) -> Done {
        self.number(&value.into())
    }

    fn serialize_i64(self, value: i64) -> Done {
        self.number(&value.into())
    }

    fn serialize_u8(self, value: u8) -> Done {
        self.number(&value.into())
    }

    fn serialize_u16(self, value: u16) -> Done {
        self.number(&value.into())
    }

    fn serialize_u32(self, value: u32) -> Done {
        self.number(&value.into())
    }

    fn serialize_u64(self, value: u64) -> Done {
        self.number(&value.into())
    }

    fn serialize_f32(self, value: f32) -> Done {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Done {
        self.number(&Number::from_f64(value).ok_or_else(|| JcsError::Number(value.to_string()))?)
    }

    fn serialize_char(self, value: char) -> Done {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Done {
        write_string(value, self.0);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Done {
        self.collect_seq(value)
    }

    fn serialize_none(self) -> Done {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Done {
        self.0.push_str("null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Done {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Done {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Done {
        let inner = self.variant(variant);
        value.serialize(Writer(&mut *inner.0))?;
        inner.0.push('}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'o>, JcsError> {
        Ok(self.items("]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Items<'o>, JcsError> {
        Ok(self.items("]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items<'o>, JcsError> {
        Ok(self.items("]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items<'o>, JcsError> {
        Ok(self.variant(variant).items("]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Members<'o>, JcsError> {
        Ok(self.members("}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members<'o>, JcsError> {
        Ok(self.members("}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'o>, JcsError> {
        Ok(self.variant(variant).members("}}"))
    }
}

/// An array.
pub(super) struct Items<'o> {
    out: &'o mut String,
    first: bool,
    close: &'static str,
}

impl Items<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        if !std::mem::take(&mut self.first) {
            self.out.push(',');
        }
        value.serialize(Writer(self.out))
    }

    fn close(self) {
        self.out.push_str(self.close);
    }
}

/// An object: its members wait for each other, because the first by name may come last.
pub(super) struct Members<'o> {
    out: &'o mut String,
    written: Vec<(String, String)>,
    name: String,
    close: &'static str,
}

impl Members<'_> {
    fn member<T: Serialize + ?Sized>(&mut self, name: String, value: &T) -> Done {
        let mut text = String::new();
        value.serialize(Writer(&mut text))?;
        self.written.push((name, text));
        Ok(())
    }

    fn close(mut self) -> Done {
        self.written.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
        let twice = self.written.windows(2).find_map(|pair| match pair {
            [(one, _), (next, _)] if one == next => Some(one),
            _ => None,
        });
        if let Some(name) = twice {
            return Err(JcsError::custom(format!("the member `{name}` is there twice")));
        }
        self.out.push('{');
        for (at, (name, text)) in self.written.iter().enumerate() {
            if at > 0 {
                self.out.push(',');
            }
            write_string(name, self.out);
            self.out.push(':');
            self.out.push_str(text);
        }
        self.out.push_str(self.close);
        Ok(())
    }
}

/// What serde calls the same thing in many ways.
macro_rules! items {
    ($($trait:ident $method:ident),*) => {$(
        impl $trait for Items<'_> {
            type Ok = ();
            type Error = JcsError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
                self.item(value)
            }

            fn end(self) -> Done {
                self.close();
                Ok(())
            }
        }
    )*};
}

items!(
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);

macro_rules! members {
    ($($trait:ident),*) => {$(
        impl $trait for Members<'_> {
            type Ok = ();
            type Error = JcsError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Done {
                self.member(name.to_owned(), value)
            }

            fn end(self) -> Done {
                self.close()
            }
        }
    )*};
}

members!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Members<'_> {
    type Ok = ();
    type Error = JcsError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        match serde_json::to_value(key).map_err(JcsError::custom)? {
            Value::String(name) => self.name = name,
            _ => return Err(JcsError::custom("a member's name is no text")),
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        let name = std::mem::take(&mut self.name);
        self.member(name, value)
    }

    fn end(self) -> Done {
        self.close()
    }
}
