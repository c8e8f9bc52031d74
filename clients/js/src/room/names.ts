// The rule for the names of rooms.

/** Tells whether a room can have this name: 1 to 128 of `A-Z a-z 0-9 . _ : @ -`, beginning with a letter, a digit or `@`. */
export const isRoomName = (name: string): boolean => /^[A-Za-z0-9@][A-Za-z0-9._:@-]{0,127}$/.test(name);
