//! The one gate for `response.create`: at most one outstanding.
