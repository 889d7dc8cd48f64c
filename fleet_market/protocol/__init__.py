"""What goes over the wire: topics, envelope and message bodies, with a major version in the topic."""
