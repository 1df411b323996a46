"""One file per section of a report: a Study goes in, a Section comes out."""
