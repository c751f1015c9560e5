package admin

// MostConns is for tests.
const MostConns = mostConns
