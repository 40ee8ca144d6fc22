module mtaw

go 1.21
