// For messages of which a part is promised.
#pragma once

#include <string>

#include <gtest/gtest.h>

// `message` has `part` in it; shows the message where it has not.
#define EXPECT_SAYS(message, part)                                   \
  do {                                                               \
    const std::string said_here = (message);                         \
    EXPECT_NE(said_here.find(part), std::string::npos) << said_here; \
  } while (false)
