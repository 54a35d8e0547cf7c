"""Finds the final answer in a text, and none where nothing is stated.

`final_answer` is the door. The text is cut to what its reader sees (`visible_text`); what it states are
`Statement`s:

* `boxes`, unless something beside one makes another statement of it (`box_surroundings`, `box_in_formula`,
  `box_in_groups`);
* `phrases`, headings and tags, whose answer is in the rest of the `sentence`;
* and where there are none, `plain_text`: its `last_line`, or the last number, unless the values or words beside it
  change it (`values_beside`, `words_beside`), or its sentence is about something else (`subject`).

`retraction` knows how each of them is taken back.
"""
