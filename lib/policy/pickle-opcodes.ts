/** Opcodes that do more than move the stack, by their names in CPython's Lib/pickletools.py. */
export const op = {
  MARK: 0x28,
  STOP: 0x2e,
  POP: 0x30,
  POP_MARK: 0x31,
  DUP: 0x32,
  FLOAT: 0x46,
  INT: 0x49,
  LONG: 0x4c,
  PERSID: 0x50,
  STRING: 0x53,
  BINSTRING: 0x54,
  SHORT_BINSTRING: 0x55,
  UNICODE: 0x56,
  BINUNICODE: 0x58,
  GLOBAL: 0x63,
  DICT: 0x64,
  APPENDS: 0x65,
  GET: 0x67,
  BINGET: 0x68,
  INST: 0x69,
  LONG_BINGET: 0x6a,
  LIST: 0x6c,
  OBJ: 0x6f,
  PUT: 0x70,
  BINPUT: 0x71,
  LONG_BINPUT: 0x72,
  TUPLE: 0x74,
  SETITEMS: 0x75,
  PROTO: 0x80,
  EXT1: 0x82,
  EXT2: 0x83,
  EXT4: 0x84,
  LONG1: 0x8a,
  LONG4: 0x8b,
  BINBYTES: 0x42,
  SHORT_BINBYTES: 0x43,
  SHORT_BINUNICODE: 0x8c,
  BINUNICODE8: 0x8d,
  BINBYTES8: 0x8e,
  ADDITEMS: 0x90,
  FROZENSET: 0x91,
  STACK_GLOBAL: 0x93,
  MEMOIZE: 0x94,
  BYTEARRAY8: 0x96,
};

/** Opcodes that only move the stack: bytes of argument to skip, values taken from the stack, values put on it. */
export const effects: Record<number, readonly [skip: number, pops: number, pushes: number]> = {
  71: [8, 0, 1], // BINFLOAT
  74: [4, 0, 1], // BININT
  75: [1, 0, 1], // BININT1
  77: [2, 0, 1], // BININT2
  78: [0, 0, 1], // NONE
  81: [0, 1, 1], // BINPERSID
  82: [0, 2, 1], // REDUCE
  93: [0, 0, 1], // EMPTY_LIST
  97: [0, 1, 0], // APPEND
  98: [0, 1, 0], // BUILD
  115: [0, 2, 0], // SETITEM
  125: [0, 0, 1], // EMPTY_DICT
  41: [0, 0, 1], // EMPTY_TUPLE
  129: [0, 2, 1], // NEWOBJ
  133: [0, 1, 1], // TUPLE1
  134: [0, 2, 1], // TUPLE2
  135: [0, 3, 1], // TUPLE3
  136: [0, 0, 1], // NEWTRUE
  137: [0, 0, 1], // NEWFALSE
  143: [0, 0, 1], // EMPTY_SET
  146: [0, 3, 1], // NEWOBJ_EX
  149: [8, 0, 0], // FRAME
  151: [0, 0, 1], // NEXT_BUFFER
  152: [0, 1, 1], // READONLY_BUFFER
};
