"""What a run found, in every form in which it is read: JSON, a page, Markdown, a badge."""
