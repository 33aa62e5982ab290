// Command hello stands for a program in tests of images.
package main

var version = "unset"

func main() { println("hello from", version) }
